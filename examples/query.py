"""SQL over what examples/augment.py wrote, read-only; a saved query, and one of our own."""

from pathlib import Path

import pipeline

with pipeline.connect(Path("cf")) as connection:
    print(connection.sql(pipeline.saved_queries()["coverage"]))
    print(connection.sql("SELECT positive, negatives[1].text AS negative FROM subcaptions LIMIT 3"))
