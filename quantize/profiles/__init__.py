"""Targets as data: one TOML file each, no code. A new target is a new file here."""

from quantize.profiles.profile import Profile, load_profile, profile_names

__all__ = ["Profile", "load_profile", "profile_names"]
