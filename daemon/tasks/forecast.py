"""From daily sums to the end of the month: an estimate, and an interval that holds. Pure."""
