"""The page where a person clicks: pictures, panes, records and the server."""
