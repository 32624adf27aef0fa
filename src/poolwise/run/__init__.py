"""Processes: settings, wiring, command line, worker, telemetry. The only ring that reads clock and environment."""
