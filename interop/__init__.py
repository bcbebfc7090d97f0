"""Check a WireGuard implementation against others, over real interfaces.

The suite drives processes, `wg` and network namespaces and imports nothing of the
implementation it checks: `python -m interop --help`.
"""
