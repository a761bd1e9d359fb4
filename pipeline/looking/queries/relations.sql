-- The relations that the captions name most often, and the rules that found them.
-- reads scene_graphs: relations.lemma, relations.rule
SELECT relation.lemma AS relation, relation.rule AS rule, count(*) AS captions
FROM (SELECT unnest(relations) AS relation FROM scene_graphs)
GROUP BY ALL
ORDER BY captions DESC, relation, rule
LIMIT 50
