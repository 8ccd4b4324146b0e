"""What it means: the result record, statistics, figures and the report. Imports neither torch nor triton."""
