"""What is learned about nets: ablations, the ledger of the sources, figures and reports."""
