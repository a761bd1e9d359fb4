-- Negatives that are, word for word, another caption's positive: false here, true there.
-- reads subcaptions: key, positive, negatives.text
WITH negatives AS (SELECT key, unnest(negatives).text AS text FROM subcaptions)
SELECT negatives.key, negatives.text AS negative, subcaptions.key AS positive_of
FROM negatives JOIN subcaptions ON lower(negatives.text) = lower(subcaptions.positive)
ORDER BY ALL
