"""The study: methods of domain generalization over seeds, from data to a page; see README.md here."""
