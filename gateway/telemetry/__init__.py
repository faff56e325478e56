"""What operations watch: metrics, logs, traces. Labels and counts, never content."""
