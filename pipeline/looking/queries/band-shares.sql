-- How evenly the negatives draw on the frequency bands, common to rare, of each lexicon.
-- reads subcaptions: negatives.edits.lexicon, negatives.edits.term_id
WITH edits AS (
    SELECT unnest(negative.edits) AS edit FROM (SELECT unnest(negatives) AS negative FROM subcaptions)
), terms AS (
    SELECT edit.lexicon AS lexicon, edit.term_id AS term_id, count(*) AS uses FROM edits GROUP BY ALL
), uses AS (
    SELECT lexicon, band, sum(uses)::BIGINT AS uses FROM terms JOIN lexicons USING (lexicon, term_id) GROUP BY lexicon, band
)
SELECT lexicon, band, uses, round(100 * uses / sum(uses) OVER (PARTITION BY lexicon), 2) AS percent
FROM uses
ORDER BY lexicon, uses DESC, band
