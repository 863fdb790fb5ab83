"""Many runs of one config: the list of jobs, and what runs them here."""
