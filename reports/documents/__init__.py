"""Tables and figures of the documents, written from stored rows between marks."""
