"""The time zone of each marketplace, by which its local hours and weekdays are told."""

from collections.abc import Mapping
from types import MappingProxyType

# The largest marketplaces, by country and by the names that are usual beside it; a wide country by its largest zone.
TIMEZONES: Mapping[str, str] = MappingProxyType(
    {
        "AE": "Asia/Dubai",
        "AU": "Australia/Sydney",
        "BE": "Europe/Brussels",
        "BR": "America/Sao_Paulo",
        "CA": "America/Toronto",
        "CN": "Asia/Shanghai",
        "DE": "Europe/Berlin",
        "ES": "Europe/Madrid",
        "FR": "Europe/Paris",
        "GB": "Europe/London",
        "IN": "Asia/Kolkata",
        "IT": "Europe/Rome",
        "JP": "Asia/Tokyo",
        "MX": "America/Mexico_City",
        "NL": "Europe/Amsterdam",
        "PL": "Europe/Warsaw",
        "SA": "Asia/Riyadh",
        "SE": "Europe/Stockholm",
        "SG": "Asia/Singapore",
        "TR": "Europe/Istanbul",
        "UK": "Europe/London",
        "US": "America/New_York",
    }
)
