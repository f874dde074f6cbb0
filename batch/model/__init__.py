"""What flows through a run: observations, plans, records. Standard library only, frozen, JSON round-trip."""
