"""Rules people write: parsed, type-checked, compiled once per version, evaluated on facts."""
