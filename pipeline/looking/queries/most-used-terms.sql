-- The 50 lexicon terms that stand in the most negatives.
-- reads subcaptions: negatives.edits.lexicon, negatives.edits.term_id, negatives.edits.replacement
WITH edits AS (
    SELECT unnest(negative.edits) AS edit
    FROM (SELECT unnest(negatives) AS negative FROM subcaptions)
)
SELECT edit.lexicon AS lexicon, edit.term_id AS term_id, min(edit.replacement) AS replacement, count(*) AS uses
FROM edits
WHERE edit.term_id <> ''
GROUP BY ALL
ORDER BY uses DESC, lexicon, term_id
LIMIT 50
