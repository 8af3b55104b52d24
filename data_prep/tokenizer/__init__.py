"""The vocabulary: trained on the documents, measured against others."""
