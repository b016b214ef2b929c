"""The small program between an SDK and its CLI; see docs/decisions/0003-launcher.md. Imports nothing on purpose."""
