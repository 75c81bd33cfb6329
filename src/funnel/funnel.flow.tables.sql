-- funnel: what a stage asks and does, and when. State: runs once.

ALTER TABLE crm.funnel ADD version integer NOT NULL DEFAULT 1;
COMMENT ON COLUMN crm.funnel.version IS 'Grows with each statement that changes the funnel, its stages, moves, actions or rules; at the end of the transaction the whole is checked once (crm.check_funnel)';
ALTER TABLE crm.funnel ADD next_step text NOT NULL DEFAULT 'free';
ALTER TABLE crm.funnel ADD CONSTRAINT funnel_next_step_check CHECK (next_step IN ('free', 'tell', 'demand'));
COMMENT ON COLUMN crm.funnel.next_step IS 'Open deals without an open task (claim 91): free, they only stand in crm_bi.deal_without_next_step; tell, the event deal.without_next_step says so at the commit that left them so; demand, that commit is refused with 23514';
COMMENT ON COLUMN crm.funnel.enabled IS 'The DBA''s switch: a funnel that is off is a draft, it may be unfinished, and no event moves its deals; one that is on is checked at the end of each transaction that changed it';

ALTER TABLE crm.stage ADD enter_required text[];
ALTER TABLE crm.stage ADD leave_required text[];
ALTER TABLE crm.stage ADD enter_condition text;
ALTER TABLE crm.stage ADD leave_condition text;
ALTER TABLE crm.stage ADD reason_required boolean NOT NULL DEFAULT false;
ALTER TABLE crm.stage ADD rot_days integer;
ALTER TABLE crm.stage ADD condition_author name;
ALTER TABLE crm.stage ADD CONSTRAINT stage_condition_check CHECK (length(enter_condition) <= 10000 AND length(leave_condition) <= 10000);
ALTER TABLE crm.stage ADD CONSTRAINT stage_required_check CHECK (cardinality(enter_required) <= 50 AND cardinality(leave_required) <= 50);
ALTER TABLE crm.stage ADD CONSTRAINT stage_rot_check CHECK (rot_days BETWEEN 1 AND 3660);
COMMENT ON COLUMN crm.stage.enter_required IS 'Columns of crm.deal, or data.KEY, that must be filled in a deal that enters; NULL: none';
COMMENT ON COLUMN crm.stage.leave_required IS 'The same of a deal that leaves it for any stage but a lost one';
COMMENT ON COLUMN crm.stage.enter_condition IS 'One SQL expression, boolean, over the columns of crm.deal, that must be true of a deal that enters; NULL: none. Built-in functions that are not volatile, and those of crm.truth; no sub-select';
COMMENT ON COLUMN crm.stage.leave_condition IS 'The same of a deal that leaves it for any stage but a lost one';
COMMENT ON COLUMN crm.stage.reason_required IS 'A deal enters only with a reason: crm.move(deal, stage, reason)';
COMMENT ON COLUMN crm.stage.rot_days IS 'A deal that stays longer rots: crm_bi.kanban shows it; days; NULL: never';
COMMENT ON COLUMN crm.stage.condition_author IS 'Login that wrote the conditions';

ALTER TABLE crm.move_allowed ADD skipped text NOT NULL DEFAULT 'ignore';
ALTER TABLE crm.move_allowed ADD CONSTRAINT move_allowed_skipped_check CHECK (skipped IN ('ignore', 'run'));
COMMENT ON COLUMN crm.move_allowed.skipped IS 'What a jump forwards does with the stages between (by position, won and lost ones left out): ignore, nothing; run, their actions run before those of the stage that is entered, and crm.stage_log.passed names them. Their conditions are not asked';

ALTER TABLE crm.deal ADD expected_on date;
ALTER TABLE crm.deal ADD data jsonb NOT NULL DEFAULT '{}';
ALTER TABLE crm.deal ADD stage_reason text;
ALTER TABLE crm.deal ADD CONSTRAINT deal_data_check CHECK (jsonb_typeof(data) = 'object' AND length(data::text) <= 20000);
ALTER TABLE crm.deal ADD CONSTRAINT deal_reason_check CHECK (length(stage_reason) <= 2000);
COMMENT ON COLUMN crm.deal.expected_on IS 'Day on which it is expected to close; timed actions may count from it';
COMMENT ON COLUMN crm.deal.data IS 'Fields of the plant''s own: an object of texts and numbers (claim 18); conditions, required fields (data.KEY) and timed actions may name them';
COMMENT ON COLUMN crm.deal.stage_reason IS 'Why it was moved to the stage it is in; NULL: nobody said. Kept by the transition trigger: a move without a word has none';
CREATE INDEX deal_open_owner_idx ON crm.deal (owner_id) WHERE closed_at IS NULL;

ALTER TABLE crm.stage_log ADD reason text;
ALTER TABLE crm.stage_log ADD passed bigint[];
ALTER TABLE crm.stage_log ALTER "by" SET DEFAULT crm.me_name();
COMMENT ON COLUMN crm.stage_log.reason IS 'Why, in words; NULL: nobody said';
COMMENT ON COLUMN crm.stage_log.passed IS 'crm.stage.id of the stages that a jump passed and whose actions it ran, in their order (crm.move_allowed.skipped); NULL: none';
COMMENT ON COLUMN crm.stage_log.by IS 'Who: login of the session, for a pooled one the employee and the login';

ALTER TABLE crm.stage_action_kind ADD own_time boolean NOT NULL DEFAULT false;
ALTER TABLE crm.stage_action_kind ADD emits text[] NOT NULL DEFAULT '{}';
ALTER TABLE crm.stage_action_kind ADD leads_to text;
COMMENT ON COLUMN crm.stage_action_kind.own_time IS 'True: a time of the action (crm.stage_action.after) is the deadline of what it makes at once; false: the moment at which it runs';
COMMENT ON COLUMN crm.stage_action_kind.emits IS 'Kinds of events that it emits by itself, now or later: what the check of loops follows';
COMMENT ON COLUMN crm.stage_action_kind.leads_to IS 'Full name of f(settings jsonb, stage_id bigint) RETURNS bigint[], the stages (crm.stage.id) into which it brings deals; NULL: none';

ALTER TABLE crm.stage_action ADD after integer;
ALTER TABLE crm.stage_action ADD after_unit text NOT NULL DEFAULT 'days';
ALTER TABLE crm.stage_action ADD after_from text NOT NULL DEFAULT 'entry';
ALTER TABLE crm.stage_action ADD at_time time;
ALTER TABLE crm.stage_action ADD on_leave text NOT NULL DEFAULT 'cancel';
ALTER TABLE crm.stage_action ADD until_answer boolean NOT NULL DEFAULT false;
ALTER TABLE crm.stage_action ADD CONSTRAINT stage_action_after_check CHECK (after BETWEEN -2000 AND 2000);
ALTER TABLE crm.stage_action ADD CONSTRAINT stage_action_unit_check CHECK (after_unit IN ('hours', 'days', 'working_days'));
ALTER TABLE crm.stage_action ADD CONSTRAINT stage_action_from_check CHECK (after_from IN ('entry', 'expected_on') OR after_from ~ '^data\.[a-z0-9_]{1,63}$');
ALTER TABLE crm.stage_action ADD CONSTRAINT stage_action_leave_check CHECK (on_leave IN ('cancel', 'keep'));
COMMENT ON COLUMN crm.stage_action.after IS 'How long after after_from it runs, or is due (claim 95); below 0: before it; NULL: at once';
COMMENT ON COLUMN crm.stage_action.after_unit IS 'hours; days of the calendar; working_days by the calendar of the deal''s owner, else the office''s';
COMMENT ON COLUMN crm.stage_action.after_from IS 'entry: when the deal entered the stage; expected_on, or data.KEY: that date of the deal. Where the date moves, what waits moves with it; where it is not known yet, it waits for it';
COMMENT ON COLUMN crm.stage_action.at_time IS 'Hour of that day, zone of the deal''s owner; NULL: the hour of the entry, for a date 10:00';
COMMENT ON COLUMN crm.stage_action.on_leave IS 'What waits (the timer, the open task) when the deal leaves the stage: cancel, with the reason; keep';
COMMENT ON COLUMN crm.stage_action.until_answer IS 'True: it ends when the client answers (an event of crm.answer_kind): a task is closed and names the event, a timer is cancelled';

CREATE TABLE crm.stage_timer (
	id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
	stage_action_id bigint NOT NULL,
	stage_log_id bigint NOT NULL,
	deal_id bigint NOT NULL,
	base_at timestamptz,
	due_at timestamptz,
	task_id bigint,
	state text NOT NULL DEFAULT 'waiting',
	ended_at timestamptz,
	reason text,
	event_id bigint,
	CONSTRAINT stage_timer_key UNIQUE (stage_action_id, stage_log_id),
	CONSTRAINT stage_timer_state_check CHECK (state IN ('waiting', 'done', 'cancelled', 'failed')),
	CONSTRAINT stage_timer_ended_check CHECK ((state = 'waiting') = (ended_at IS NULL))
);
COMMENT ON TABLE crm.stage_timer IS 'What the stages of deals wait for: timed actions and the tasks that stages gave, one for each action and entry (claim 95)';
COMMENT ON COLUMN crm.stage_timer.id IS 'Our number';
COMMENT ON COLUMN crm.stage_timer.stage_action_id IS 'crm.stage_action.id';
COMMENT ON COLUMN crm.stage_timer.stage_log_id IS 'crm.stage_log.id: the entry that started it';
COMMENT ON COLUMN crm.stage_timer.deal_id IS 'crm.deal.id';
COMMENT ON COLUMN crm.stage_timer.base_at IS 'From when it counts; NULL: the date is not known yet';
COMMENT ON COLUMN crm.stage_timer.due_at IS 'When the action runs, or the task is due, business clock; NULL: the date is not known yet';
COMMENT ON COLUMN crm.stage_timer.task_id IS 'crm.task.id that was made; NULL: none';
COMMENT ON COLUMN crm.stage_timer.state IS 'waiting; done (it ran, or its task was done); cancelled; failed (crm.stage_action_failure tells)';
COMMENT ON COLUMN crm.stage_timer.ended_at IS 'When it ended, business clock; NULL: it waits';
COMMENT ON COLUMN crm.stage_timer.reason IS 'Why it was cancelled, or ended before its time';
COMMENT ON COLUMN crm.stage_timer.event_id IS 'crm.event.id by which the client answered; NULL: none';
CREATE INDEX stage_timer_deal_idx ON crm.stage_timer (deal_id) WHERE state = 'waiting';
CREATE INDEX stage_timer_due_idx ON crm.stage_timer (due_at) WHERE state = 'waiting' AND task_id IS NULL;
CREATE INDEX stage_timer_task_idx ON crm.stage_timer (task_id) WHERE task_id IS NOT NULL;

CREATE TABLE crm.answer_kind (
	event_kind text PRIMARY KEY
);
COMMENT ON TABLE crm.answer_kind IS 'Kinds of events by which a client answers; filled by code (crm.register_answer_kind), in no dump';
COMMENT ON COLUMN crm.answer_kind.event_kind IS 'crm.event_kind.kind';

CREATE TABLE crm.deal_activity (
	deal_id bigint NOT NULL,
	object_kind text NOT NULL,
	object_id bigint NOT NULL,
	PRIMARY KEY (deal_id, object_kind, object_id)
);
COMMENT ON TABLE crm.deal_activity IS 'What belongs to which deal: tasks, notes, calls, letters; activities themselves name no deal';
COMMENT ON COLUMN crm.deal_activity.deal_id IS 'crm.deal.id';
COMMENT ON COLUMN crm.deal_activity.object_kind IS 'task, note, call, letter, meeting';
COMMENT ON COLUMN crm.deal_activity.object_id IS 'id in the table of object_kind';
-- whole, or the primary key would be walked through from end to end instead
CREATE INDEX deal_activity_object_idx ON crm.deal_activity (object_kind, object_id, deal_id);

CREATE TABLE crm.deal_link (
	id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
	deal_id bigint NOT NULL,
	card_id bigint NOT NULL,
	stage_action_id bigint,
	stage_log_id bigint,
	waits boolean NOT NULL DEFAULT false,
	return_won text,
	return_lost text,
	made_at timestamptz NOT NULL DEFAULT crm.now(),
	returned_at timestamptz,
	outcome text,
	problem text,
	CONSTRAINT deal_link_card_key UNIQUE (card_id),
	CONSTRAINT deal_link_other_check CHECK (deal_id <> card_id),
	CONSTRAINT deal_link_outcome_check CHECK (outcome IN ('won', 'lost'))
);
COMMENT ON TABLE crm.deal_link IS 'Deals that were handed over to another funnel: the deal, the card that was made for it there, and the way back (claim 98)';
COMMENT ON COLUMN crm.deal_link.id IS 'Our number';
COMMENT ON COLUMN crm.deal_link.deal_id IS 'crm.deal.id that was handed over';
COMMENT ON COLUMN crm.deal_link.card_id IS 'crm.deal.id of its card in the other funnel';
COMMENT ON COLUMN crm.deal_link.stage_action_id IS 'crm.stage_action.id that did it; NULL: a person (crm.hand_over)';
COMMENT ON COLUMN crm.deal_link.stage_log_id IS 'crm.stage_log.id: the entry that did it';
COMMENT ON COLUMN crm.deal_link.waits IS 'True: until the card comes back the deal moves nowhere but to a lost stage';
COMMENT ON COLUMN crm.deal_link.return_won IS 'Code of the stage to which the deal goes when its card is won; NULL: it stays';
COMMENT ON COLUMN crm.deal_link.return_lost IS 'Code of the stage to which the deal goes when its card is lost; NULL: it stays';
COMMENT ON COLUMN crm.deal_link.made_at IS 'When, business clock';
COMMENT ON COLUMN crm.deal_link.returned_at IS 'When the card was closed; NULL: it is open';
COMMENT ON COLUMN crm.deal_link.outcome IS 'won or lost: how the card was closed';
COMMENT ON COLUMN crm.deal_link.problem IS 'Why the deal did not go back by itself; NULL: it did, or was not to';
CREATE INDEX deal_link_deal_idx ON crm.deal_link (deal_id);

CREATE TABLE crm.checklist_item (
	id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
	deal_id bigint NOT NULL,
	"position" integer NOT NULL DEFAULT 10,
	name text NOT NULL,
	blocks boolean NOT NULL DEFAULT true,
	done_at timestamptz,
	done_by text,
	CONSTRAINT checklist_item_name_check CHECK (name <> '' AND length(name) <= 500),
	CONSTRAINT checklist_item_done_check CHECK ((done_at IS NULL) = (done_by IS NULL))
);
COMMENT ON TABLE crm.checklist_item IS 'What must be done before a card moves on (claim 98). crm.check_item';
COMMENT ON COLUMN crm.checklist_item.id IS 'Our number';
COMMENT ON COLUMN crm.checklist_item.deal_id IS 'crm.deal.id of the card';
COMMENT ON COLUMN crm.checklist_item."position" IS 'Order in the list';
COMMENT ON COLUMN crm.checklist_item.name IS 'What is to be done';
COMMENT ON COLUMN crm.checklist_item.blocks IS 'True: until it is done the card moves nowhere but backwards or to a lost stage';
COMMENT ON COLUMN crm.checklist_item.done_at IS 'When it was ticked; NULL: open';
COMMENT ON COLUMN crm.checklist_item.done_by IS 'Who ticked it';
CREATE INDEX checklist_item_deal_idx ON crm.checklist_item (deal_id, "position");
CREATE INDEX checklist_item_open_idx ON crm.checklist_item (deal_id) WHERE blocks AND done_at IS NULL;

CREATE TABLE crm.next_step_check (
	id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
	deal_ids bigint[] NOT NULL
);
COMMENT ON TABLE crm.next_step_check IS 'Deals whose next step is looked at when the transaction commits: written and emptied by the same transaction';
COMMENT ON COLUMN crm.next_step_check.id IS 'Our number';
COMMENT ON COLUMN crm.next_step_check.deal_ids IS 'crm.deal.id of deals that came, moved, or lost a task';
