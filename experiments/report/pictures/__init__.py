"""Pictures from the logs: figures are built by pure functions and saved apart. PNG, PDF or SVG."""
