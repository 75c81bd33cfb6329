-- claim 57: a template takes its values once, says the right form of a word, and refuses what it does not know
SELECT crm.template_fill('Машина {{plate}} выехала в {{ at }}, {{tonnes}} т.', '{"plate": "А123ВС77", "at": "08:15", "tonnes": 20.5}');
SELECT crm.template_fill('no variables {here} }} at all', '{}');
SELECT crm.template_fill('', '{}') = '' AS empty, crm.template_fill('[{{x}}]', '{"x": null}') AS null_is_empty;
-- a value is never read as a template
SELECT crm.template_fill('{{company}}, {{plate}}', '{"company": "{{secret}} {{plate}} \\1 %s", "plate": "{{company}}", "secret": "x"}');

-- forms of a word
SELECT n, crm.template_fill('{{n|вагон|вагона|вагонов}} / {{n|wagon|wagons}}', jsonb_build_object('n', n))
FROM unnest('{0,1,2,4,5,11,12,14,19,20,21,22,25,101,111,112,1001,1011,-1,-2}'::integer[]) AS n;
SELECT n, crm.template_fill('{{n|тонна|тонны|тонн}} / {{n|tonne|tonnes}}', jsonb_build_object('n', n))
FROM unnest('{1.0,1.5,2.50,20,0.001,21.00}'::numeric[]) AS n;
SELECT crm.template_fill('{{n|вагон|вагона|вагонов}}', '{"n": "21"}') AS from_text, crm.template_fill('{{n|тонна|тонны|тонн}}', '{"n": "20,5"}') AS comma;
SELECT crm.template_fill('{{n|вагон|вагона|вагонов}}', '{"n": "много"}');
SELECT crm.template_fill('{{n|вагон|вагона|вагонов}}', '{"n": null}');

-- html: values are escaped, the template and the forms of a word are not
SELECT crm.template_fill_html('<b>{{company}}</b> &amp; {{n|<i>wagon</i>|wagons}}', '{"company": "<a href=\"http://x\">O''Neil & Co</a>", "n": 1}');

-- what is used
SELECT crm.template_variables('{{a}} {{ b.c }} {{n|one|two}} {{a}} {{A_1}}') AS used, crm.template_variables('none') AS none;
SELECT count(*) FROM unnest(crm.template_variables((SELECT string_agg('{{v' || i % 40 || '}}', ' ') FROM generate_series(1, 5000) AS i))) AS v;

-- errors: all unknown names at once, with what is known
\set SHOW_CONTEXT never
SELECT crm.template_fill('{{plate}} {{driver}} {{eta}} {{driver}}', '{"plate": "A", "at": 1}');
\echo :LAST_ERROR_SQLSTATE
SELECT crm.template_fill('{{plate}}', '{}');
SELECT crm.template_fill('Здравствуйте, {{name', '{"name": 1}');
SELECT crm.template_fill('{{na me}}', '{}');
SELECT crm.template_fill('{{}}', '{}');
SELECT crm.template_fill('{{1a}}', '{}');
SELECT crm.template_fill('{{a {{b}}', '{"a": 1, "b": 2}');
SELECT crm.template_fill('{{n|one}}', '{"n": 1}');
SELECT crm.template_fill('{{n|1|2|3|4}}', '{"n": 1}');
SELECT crm.template_fill('{{x}}', '{"x": [1]}');
SELECT crm.template_fill('{{x}}', '{"x": true}');
SELECT crm.template_fill('{{x}}', '[1]');
SELECT crm.template_variables('{{' || repeat('x', 64) || '}}');
