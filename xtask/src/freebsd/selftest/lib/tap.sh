# Counting and reporting: the Test Anything Protocol, version 13.
#
# A point is a function. It runs commands with `t`, looks at what they said with `says`, `equals`,
# `complains` and `so`, and goes on past what is wrong, so that what it has made is removed again. What was
# wrong is shown below its line.

COUNT=0  # points that were played
BROKEN=0 # those of them that failed
FAULTS=0 # what is wrong with the point that is being played
SKIPPED= # why it can't be played here
STDIN=/dev/null
SAID= RC=0 OUT= ERR=

# have PROGRAM: whether this system has it.
have() {
	command -v "$1" >/dev/null 2>&1
}

# point NAME FUNCTION: plays a point, unless --only asks for others.
point() {
	case "$PLAN: $1" in
	*$ONLY*) play "$1" "$2" ;;
	esac
}

# play NAME FUNCTION: plays a point in any case; its exit status tells whether all was well.
play() {
	COUNT=$((COUNT + 1))
	FAULTS=0
	SKIPPED=
	: >"$WORK/faults"
	began=$(date +%s)
	"$2"
	took=$(($(date +%s) - began))
	if [ "$FAULTS" -gt 0 ]; then
		BROKEN=$((BROKEN + 1))
		echo "not ok $COUNT - $PLAN: $1"
		cat "$WORK/faults"
		daemon_said
		sweep
		return 1
	fi
	echo "ok $COUNT - $PLAN: $1${SKIPPED:+ # skip $SKIPPED}"
	if [ "$took" -ge 3 ]; then
		echo "# $took s"
	fi
}

# skip REASON: what this point is about can't be here. To be followed by `return`.
skip() {
	SKIPPED=$1
}

# t STATUS COMMAND...: runs a command that has to end with this exit status; `fails` is any but 0. Standard
# input is the file $STDIN. Leaves OUT, ERR and RC behind.
t() {
	wanted=$1
	shift
	SAID="$*"
	OUT=$("$@" 2>"$WORK/stderr" <"$STDIN")
	RC=$?
	ERR=$(cat "$WORK/stderr")
	case $wanted in
	any) ;;
	fails) [ "$RC" -ne 0 ] || fault "it succeeds, which it should not" ;;
	*) [ "$RC" -eq "$wanted" ] || fault "exit status $RC, not $wanted" ;;
	esac
}

# fault WHAT: something is wrong. Only the first three are shown: the others mostly follow from them.
fault() {
	FAULTS=$((FAULTS + 1))
	if [ "$FAULTS" -le 3 ]; then
		{
			echo "# $1"
			echo "#   command: $SAID" | sed '2,$s/^/# /'
			echo "#   exit status: $RC"
			quote stdout "$OUT"
			quote stderr "$ERR"
		} >>"$WORK/faults"
	fi
	return 1
}

# quote NAME TEXT: the beginning of a text as diagnostics.
quote() {
	[ -z "$2" ] || printf '%s\n' "$2" | sed -n "1,15s/^/#   $1: /p"
}

# says TEXT, says_not TEXT: whether standard output has the text in it.
says() {
	case $OUT in
	*"$1"*) ;;
	*) fault "standard output lacks '$1'" ;;
	esac
}

says_not() {
	case $OUT in
	*"$1"*) fault "standard output has '$1' in it" ;;
	esac
}

# equals TEXT: whether standard output is this, but for newlines at its end.
equals() {
	[ "$OUT" = "$1" ] || fault "standard output isn't '$1'"
}

# complains TEXT: whether standard error has the text in it.
complains() {
	case $ERR in
	*"$1"*) ;;
	*) fault "standard error lacks '$1'" ;;
	esac
}

# so WHAT COMMAND...: whether a command succeeds that says something about the machine.
so() {
	what=$1
	shift
	"$@" >/dev/null 2>&1 || fault "not so: $what ($*)"
}

# never WHAT COMMAND...: the opposite.
never() {
	what=$1
	shift
	if "$@" >/dev/null 2>&1; then
		fault "should not be so: $what ($*)"
	fi
}

# soon WHAT COMMAND...: whether a command succeeds within half a minute.
soon() {
	what=$1
	shift
	tries=0
	until "$@" >/dev/null 2>&1; do
		tries=$((tries + 1))
		if [ "$tries" -gt 150 ]; then
			fault "it never happens: $what ($*)"
			return 1
		fi
		sleep 0.2
	done
}

# same WHAT WANTED FOUND: whether two words are the same.
same() {
	[ "$2" = "$3" ] || fault "$1 is '$3', not '$2'"
}

# field KEY: the first value of a key in the JSON of standard output, without its quotes.
field() {
	printf '%s\n' "$OUT" | sed -n 's/^ *"'"$1"'": "\{0,1\}\([^"]*\)"\{0,1\},\{0,1\}$/\1/p' | sed -e 's/,$//' -e q
}
