-- How evenly the negatives draw on the frequency bands, common to rare, of each lexicon.
WITH edits AS (
    SELECT edit.lexicon AS lexicon, edit.term_id AS term_id
    FROM (SELECT unnest(negative.edits) AS edit FROM (SELECT unnest(negatives) AS negative FROM subcaptions))
)
SELECT lexicon, band, count(*) AS uses,
       round(100 * count(*) / sum(count(*)) OVER (PARTITION BY lexicon), 2) AS percent
FROM edits JOIN lexicons USING (lexicon, term_id)
GROUP BY ALL
ORDER BY ALL
