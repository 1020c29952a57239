"""The default model for points, and its parts: each turns an event, or a part's answer, into one number."""
