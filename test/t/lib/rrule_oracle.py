# An independent reader of recurrence rules: dateutil.
#   make SEED N    cases as lines: rule, starts_at (UTC), zone, after (UTC), tab-separated
#   answer FILE    for each case the next moment in UTC, or an empty line
import datetime as d
import random
import sys
import zoneinfo

from dateutil.rrule import rrulestr

UTC = d.timezone.utc
ZONES = ['Europe/Moscow', 'Europe/Berlin', 'America/New_York', 'Asia/Yekaterinburg', 'Australia/Lord_Howe', 'UTC']
FORM = '%Y-%m-%d %H:%M:%S+00'


def choice_list(r, values, most):
    return ','.join(str(v) for v in sorted(r.sample(values, r.randint(1, most))))


def rule(r):
    freq = r.choice(['YEARLY', 'MONTHLY', 'MONTHLY', 'WEEKLY', 'WEEKLY', 'DAILY', 'DAILY', 'HOURLY', 'MINUTELY'])
    out = ['FREQ=' + freq]
    if freq == 'MINUTELY':
        out.append('INTERVAL=%d' % r.choice([5, 7, 15, 45, 90]))
    elif r.random() < 0.4:
        out.append('INTERVAL=%d' % r.randint(2, 9))
    days = ['MO', 'TU', 'WE', 'TH', 'FR', 'SA', 'SU']
    if freq in ('HOURLY', 'MINUTELY'):
        if r.random() < 0.5:
            out.append('BYDAY=' + ','.join(r.sample(days, r.randint(1, 5))))
        if r.random() < 0.4:
            out.append('BYHOUR=' + choice_list(r, range(6, 22), 6) if freq == 'HOURLY' and len(out) < 3 and 'INTERVAL' not in ''.join(out) else 'BYMONTH=' + choice_list(r, range(1, 13), 5))
    elif freq == 'DAILY':
        if r.random() < 0.5:
            out.append('BYDAY=' + ','.join(r.sample(days, r.randint(1, 5))))
        elif r.random() < 0.3:
            out.append('BYMONTHDAY=' + choice_list(r, range(1, 29), 5))
    elif freq == 'WEEKLY':
        if r.random() < 0.8:
            out.append('BYDAY=' + ','.join(r.sample(days, r.randint(1, 5))))
        if r.random() < 0.3:
            out.append('WKST=' + r.choice(['MO', 'SU']))
    elif freq == 'MONTHLY':
        kind = r.random()
        if kind < 0.3:
            out.append('BYMONTHDAY=' + choice_list(r, [-1, -2, 1, 5, 15, 28, 30, 31], 3))
        elif kind < 0.6:
            out.append('BYDAY=' + ','.join('%d%s' % (r.choice([-1, 1, 2, 3, 4]), x) for x in r.sample(days, r.randint(1, 2))))
        elif kind < 0.8:
            out.append('BYDAY=MO,TU,WE,TH,FR;BYSETPOS=%d' % r.choice([1, 2, -1]))
    else:
        kind = r.random()
        if kind < 0.4:
            out.append('BYMONTH=%s;BYMONTHDAY=%s' % (choice_list(r, range(1, 13), 3), choice_list(r, range(1, 29), 3)))
        elif kind < 0.6:
            out.append('BYYEARDAY=' + choice_list(r, [1, 59, 60, 200, 365, -1], 3))
        elif kind < 0.8:
            out.append('BYWEEKNO=%s;BYDAY=%s' % (choice_list(r, range(2, 52), 3), r.choice(days)))
    if freq not in ('HOURLY', 'MINUTELY') and r.random() < 0.5:
        many = 'SETPOS' not in out[-1]
        out.append('BYHOUR=%s;BYMINUTE=%s' % (choice_list(r, range(0, 24), 3 if many else 1), choice_list(r, [0, 15, 30, 59], 2 if many else 1)))
    end = r.random()
    if end < 0.15:
        out.append('COUNT=%d' % r.randint(1, 200))
    elif end < 0.3:
        out.append('UNTIL=%d%02d%02dT%02d0000' % (r.randint(2024, 2032), r.randint(1, 12), r.randint(1, 28), r.randint(0, 23)))
    return ';'.join(out)


def make(seed, n):
    r = random.Random(seed)
    base = d.datetime(2023, 1, 1, tzinfo=UTC)
    for _ in range(n):
        zone = r.choice(ZONES)
        starts = base + d.timedelta(minutes=r.randint(0, 2 * 525600))
        # half of them about the days on which the clocks change
        if r.random() < 0.5:
            turn = r.choice([(3, 30), (10, 26), (3, 8), (11, 1), (4, 5), (10, 4)])
            after = d.datetime(r.randint(2025, 2027), turn[0], turn[1], tzinfo=UTC) + d.timedelta(minutes=r.randint(-4000, 4000))
        else:
            after = starts + d.timedelta(minutes=r.randint(-100000, 3 * 525600))
        text = rule(r)
        # the independent reader walks every moment from the first one: fine steps begin weeks before, not years
        if 'MINUTELY' in text or 'HOURLY' in text:
            starts = max(starts, after - d.timedelta(minutes=r.randint(-1000, 60000)))
        print(text, starts.strftime(FORM), zone, after.strftime(FORM), sep='\t')


def moment(wall, zone):
    # what AT TIME ZONE does: a time that is leapt over by the offset before, one that comes twice by the one after
    first, second = wall.replace(tzinfo=zone, fold=0), wall.replace(tzinfo=zone, fold=1)
    gap = first.utcoffset() < second.utcoffset()
    return (first if gap else second).astimezone(UTC)


def answer(file):
    for line in open(file):
        text, starts, name, after = line.rstrip('\n').split('\t')
        zone = zoneinfo.ZoneInfo(name)
        starts = d.datetime.strptime(starts, FORM).replace(tzinfo=UTC)
        after = d.datetime.strptime(after, FORM).replace(tzinfo=UTC)
        rule = rrulestr(text, dtstart=starts.astimezone(zone).replace(tzinfo=None))
        best = None
        wall = max(after, starts).astimezone(zone).replace(tzinfo=None) - d.timedelta(hours=5)
        for n, t in enumerate(rule.xafter(wall, inc=True)):
            at = moment(t, zone)
            if at > after and at >= starts and (best is None or at < best):
                best = at
            if best is not None and t - best.astimezone(zone).replace(tzinfo=None) > d.timedelta(hours=5):
                break
            if best is not None and n > 200:
                break
        print(best.strftime(FORM) if best else '')


if sys.argv[1] == 'make':
    make(int(sys.argv[2]), int(sys.argv[3]))
else:
    answer(sys.argv[2])
