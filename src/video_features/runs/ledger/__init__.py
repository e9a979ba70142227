"""What a run leaves beside its outputs: how every video ended, and what the run was for."""
