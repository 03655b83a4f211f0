"""Parts that know nothing of DreamerV2 and could serve another agent unchanged."""
