"""Clicks of a history judged anew, by another model or with features counted again: decisions that replace others."""
