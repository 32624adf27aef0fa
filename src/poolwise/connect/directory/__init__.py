"""The network directory: one CSV, JSONL or YAML file for each kind of master data, stock, receipts and orders."""
