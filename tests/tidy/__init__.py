"""The repository itself: its rules, its documents, its generated pages."""
