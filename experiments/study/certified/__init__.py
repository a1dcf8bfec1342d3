"""What no k training instances can change, beside what some of them do change."""
