"""Implementations measured side by side, interleaved in one run, on one machine."""
