"""The HTTP API: parse, authorise, call a flow or a view, render. No business rule lives here."""
