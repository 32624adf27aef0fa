"""What happens when: load, decide with core, record in one transaction. One file per story."""
