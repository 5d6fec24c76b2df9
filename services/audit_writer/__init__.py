"""The audit-writer: turns decisions into Audit resources owned by the workloads."""
