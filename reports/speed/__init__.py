"""Speed-ups: analysis, verdicts, tables, charts."""
