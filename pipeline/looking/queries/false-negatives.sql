-- Negatives that are, word for word, another caption's positive: false here, true there.
-- reads subcaptions: key, positive, negatives.text
WITH rows AS MATERIALIZED (SELECT key, positive, negatives FROM subcaptions),
negatives AS (SELECT key, unnest(negatives).text AS text FROM rows)
SELECT negatives.key, negatives.text AS negative, rows.key AS positive_of
FROM negatives JOIN rows ON lower(negatives.text) = lower(rows.positive)
ORDER BY ALL
