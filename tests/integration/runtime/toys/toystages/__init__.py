"""A pipeline of tiny stages, with faults that a test orders through files."""
