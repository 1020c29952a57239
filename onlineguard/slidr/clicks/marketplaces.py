"""The time zone of each marketplace, which gives its local hours and weekdays."""

from collections.abc import Mapping
from types import MappingProxyType

# The largest marketplaces, by the code of the country or another usual one. A wide country has its largest zone.
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
