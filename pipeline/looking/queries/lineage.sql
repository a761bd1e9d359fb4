-- Ten negatives of the first captions, with what was replaced by what, and the lexicon row it came from.
SELECT subcaptions.key, subcaptions.caption, subcaptions.positive, negative.kind AS kind, negative.text AS negative,
       edit.original AS original, edit.replacement AS replacement,
       edit.lexicon AS lexicon, edit.term_id AS term_id, lexicons.band, lexicons.source
FROM (SELECT key, caption, positive, unnest(negatives) AS negative
      FROM (SELECT * FROM subcaptions WHERE len(negatives) > 0 LIMIT 10)) AS subcaptions,
     unnest(negative.edits) AS edits(edit)
     LEFT JOIN lexicons ON lexicons.lexicon = edit.lexicon AND lexicons.term_id = edit.term_id
ORDER BY subcaptions.key, negative, edit.start
LIMIT 10
