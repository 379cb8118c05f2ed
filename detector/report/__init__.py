"""One page of an ablation, for a person to read: tables, pictures and what they allow to say."""
