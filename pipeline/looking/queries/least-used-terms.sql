-- The 50 lexicon terms that stand in the fewest negatives, those that stand in none left out.
-- reads subcaptions: negatives.edits.lexicon, negatives.edits.term_id
WITH edits AS (
    SELECT unnest(negative.edits) AS edit
    FROM (SELECT unnest(negatives) AS negative FROM subcaptions)
), uses AS (
    SELECT edit.lexicon AS lexicon, edit.term_id AS term_id, count(*) AS uses
    FROM edits
    WHERE edit.term_id <> ''
    GROUP BY ALL
)
SELECT lexicon, term_id, band, kind, uses
FROM uses LEFT JOIN lexicons USING (lexicon, term_id)
ORDER BY uses, lexicon, term_id
LIMIT 50
