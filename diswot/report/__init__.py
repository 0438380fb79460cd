"""Reports: tables, charts and pages, of whatever is put into them."""
