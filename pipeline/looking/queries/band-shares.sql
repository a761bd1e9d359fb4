-- How evenly the negatives draw on the frequency bands, common to rare, of each lexicon.
WITH edits AS (
    SELECT edit.lexicon AS lexicon, edit.term_id AS term_id
    FROM (SELECT unnest(negative.edits) AS edit FROM (SELECT unnest(negatives) AS negative FROM subcaptions))
), uses AS (
    SELECT lexicon, band, count(*) AS uses FROM edits JOIN lexicons USING (lexicon, term_id) GROUP BY lexicon, band
)
SELECT lexicon, band, uses, round(100 * uses / sum(uses) OVER (PARTITION BY lexicon), 2) AS percent
FROM uses
ORDER BY lexicon, uses DESC, band
