"""The pure core: events to facts, facts to rows, rows to an entitlement."""
