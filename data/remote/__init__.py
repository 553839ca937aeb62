"""Files at URLs: buckets of S3 and of Google, and web servers, read in ranges and written object by object."""
