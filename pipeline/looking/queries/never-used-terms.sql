-- Lexicon terms that no negative uses.
-- reads subcaptions: negatives.edits.lexicon, negatives.edits.term_id
WITH used AS (
    SELECT DISTINCT edit.lexicon AS lexicon, edit.term_id AS term_id
    FROM (SELECT unnest(negative.edits) AS edit FROM (SELECT unnest(negatives) AS negative FROM subcaptions))
)
SELECT lexicons.lexicon, lexicons.term_id, lexicons.term, lexicons.band
FROM lexicons ANTI JOIN used USING (lexicon, term_id)
ORDER BY ALL
