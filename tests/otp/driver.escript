#!/usr/bin/env escript
%%! +S 1:1 -kernel logger_level none
%% Runs the scenarios in the named files against the `supervisor` of Erlang/OTP, and prints the trace
%% of each: one line for each step, as docs in tests/otp/main.rs say.
%%
%% One scheduler: a process then dies, and all that watch it are told, before any other one runs. So
%% the order in which the log hears of things is the order in which they happened.
-module(driver).
-mode(compile).
-export([main/1]).
%% Called by gen_server, and by supervisor.
-export([init/1, handle_call/3, handle_cast/2, terminate/2]).
-export([start_worker/2, start_supervisor/1]).

%% How long a tree may take until it is quiet.
-define(DEADLINE_MS, 20000).

main([]) ->
    io:format(standard_error, "usage: driver.escript FILE...~n", []),
    halt(2);
main(Files) ->
    process_flag(trap_exit, true),
    lists:foreach(fun run_file/1, Files),
    %% Only what was written down to this line is whole.
    io:format("end~n").

run_file(File) ->
    {ok, Text} = file:read_file(File),
    Lines = [Line || Line <- string:split(binary_to_list(Text), "\n", all), meaning(Line) =/= []],
    lists:foreach(fun run_scenario/1, scenarios(Lines, [])).

%% The words of a line, without a comment.
meaning(Line) ->
    [Text | _] = string:split(Line, "#"),
    string:lexemes(Text, " ").

%% ---- reading -------------------------------------------------------------------------------------

%% [{Name, Tree, Steps}]
scenarios([], Done) ->
    lists:reverse(Done);
scenarios([Header | Lines], Done) ->
    ["scenario" | _] = meaning(Header),
    Name = string:trim(string:prefix(Header, "scenario")),
    {Body, Rest} = lists:splitwith(fun(L) -> hd(meaning(L)) =/= "scenario" end, Lines),
    {Before, [Root | Below]} = lists:splitwith(fun(L) -> hd(meaning(L)) =/= "supervisor" end, Body),
    {Children, Steps} = children(Below, indent(Root)),
    Tree = child_spec(meaning(Root), Children),
    scenarios(Rest, [{Name, Tree, settings(Before), [meaning(S) || S <- Steps]} | Done]).

settings(Lines) ->
    [meaning(Line) || Line <- Lines].

%% Those that are further to the right.
children([Line | Lines] = All, Indent) ->
    case indent(Line) of
        Deeper when Deeper > Indent ->
            {Below, Rest} = children(Lines, Deeper),
            Child = child_spec(meaning(Line), Below),
            {Siblings, After} = children(Rest, Indent),
            {[Child | Siblings], After};
        _ ->
            {[], All}
    end;
children([], _) ->
    {[], []}.

indent(Line) ->
    length(Line) - length(string:trim(Line, leading, " ")).

child_spec(["worker", Id, Restart, Shutdown], []) ->
    #{id => Id, start => {?MODULE, start_worker, [Id, Shutdown]}, restart => atom(Restart),
      shutdown => shutdown(Shutdown), type => worker};
child_spec(["supervisor", Id, Strategy, Intensity, Restart, Shutdown], Children) ->
    [Most, Seconds] = [list_to_integer(N) || N <- string:lexemes(Intensity, "/")],
    Flags = #{strategy => atom(Strategy), intensity => Most, period => Seconds},
    #{id => Id, start => {?MODULE, start_supervisor, [{Id, Flags, Children}]},
      restart => atom(Restart), shutdown => shutdown(Shutdown), type => supervisor}.

shutdown("kill") -> brutal_kill;
shutdown("infinity") -> infinity;
shutdown(Ms) -> list_to_integer(Ms).

atom(Word) -> list_to_atom(Word).

%% ---- a scenario ----------------------------------------------------------------------------------

run_scenario({Name, Tree, Settings, Steps}) ->
    io:format("scenario ~s~n", [Name]),
    Log = spawn_link(fun() -> log(new_log()) end),
    register(log, Log),
    lists:foreach(fun(Setting) -> step(Setting, Tree) end, Settings),
    #{start := {?MODULE, start_supervisor, [Root]}} = Tree,
    Started =
        case start_supervisor(Root) of
            {ok, _} -> "ok";
            {error, _} -> "refused"
        end,
    report(["start"], Started, Tree),
    lists:foreach(fun(Step) -> run_step(Step, Tree) end, Steps),
    end_tree(Tree),
    unlink(Log),
    exit(Log, kill),
    unregister(log),
    flush().

run_step(Step, Tree) ->
    Result = step(Step, Tree),
    quiet(Tree),
    report(Step, Result, Tree).

end_tree(#{id := Id}) ->
    case whereis(atom(Id)) of
        undefined -> ok;
        Pid ->
            Ref = monitor(process, Pid),
            exit(Pid, shutdown),
            receive {'DOWN', Ref, process, Pid, _} -> ok end
    end.

flush() ->
    receive _ -> flush() after 0 -> ok end.

step(["start_fails", Id, Times], _) -> ask({start_fails, Id, list_to_integer(Times)});
step(["ignores_stop", Id], _) -> ask({ignores_stop, Id});
step(["crash", Id], _) -> end_worker(Id, crashed);
step(["kill", Id], _) -> end_worker(Id, kill);
step(["exit", Id, Reason], _) -> end_worker(Id, atom(Reason));
step(["wait", Ms], _) -> timer:sleep(list_to_integer(Ms)), none;
step(["terminate_child", Sup, Id], _) -> call(terminate_child, Sup, Id);
step(["restart_child", Sup, Id], _) -> call(restart_child, Sup, Id);
step(["delete_child", Sup, Id], _) -> call(delete_child, Sup, Id);
step(["start_child", Sup | Spec], _) -> call(start_child, Sup, child_spec(Spec, [])).

call(Function, Sup, Argument) ->
    case catch supervisor:Function(atom(Sup), Argument) of
        ok -> "ok";
        {ok, _} -> "ok";
        {error, {already_started, _}} -> "already_started";
        {error, Reason} when is_atom(Reason), Reason =/= failed -> atom_to_list(Reason);
        {error, _} -> "refused";
        {'EXIT', _} -> "noproc"
    end.

%% Ends a worker that nobody has told to stop, and waits until it is dead.
end_worker(Id, Reason) ->
    case ask({own_death, Id}) of
        none ->
            "noproc";
        Pid ->
            Ref = monitor(process, Pid),
            case Reason of
                kill -> exit(Pid, kill);
                _ -> gen_server:cast(Pid, {die, Reason})
            end,
            receive {'DOWN', Ref, process, Pid, _} -> none end
    end.

%% Waits until there is nothing to be done in the tree: twice in a row each supervisor has the same
%% children, and none that waits to be restarted, and nothing was logged between.
quiet(Tree) ->
    quiet(Tree, none, erlang:monotonic_time(millisecond) + ?DEADLINE_MS).

quiet(Tree, Before, Deadline) ->
    Now = {catch sweep(Tree), ask(seen)},
    case erlang:monotonic_time(millisecond) > Deadline of
        true ->
            io:format("not quiet: ~p~n", [Now]),
            halt(1);
        false ->
            ok
    end,
    case Now of
        {{'EXIT', _}, _} -> quiet(Tree, none, Deadline);
        Before -> ok;
        _ -> quiet(Tree, Now, Deadline)
    end.

%% What runs under each supervisor, from below: what they have to do goes upwards.
sweep(#{id := Id, type := supervisor}) ->
    case whereis(atom(Id)) of
        undefined -> gone;
        Pid -> sweep_supervisor(Pid)
    end.

sweep_supervisor(Pid) ->
    Children = supervisor:which_children(Pid),
    [true = Child =/= restarting || {_, Child, _, _} <- Children],
    Below = [sweep_supervisor(Child) || {_, Child, supervisor, _} <- Children, is_pid(Child)],
    [true = is_process_alive(Child) || {_, Child, _, _} <- Children, is_pid(Child)],
    {Pid, Children, Below}.

%% ---- what is written down ------------------------------------------------------------------------

report(Step, Result, Tree) ->
    Events = ask(events),
    Said = case Result of
        none -> "";
        _ -> " -> " ++ Result
    end,
    io:format("~s~s: ~s | ~s | ~s~n", [
        lists:join(" ", Step), Said, lists:join(", ", Events), lists:join(" ", ask(running)),
        lists:join(", ", counts(Tree))
    ]).

%% In the order of the names, since children that were added are none of the scenario's tree.
counts(#{id := Root}) ->
    Of = fun(Sup) ->
        Count = supervisor:count_children(atom(Sup)),
        [Specs, Active, Supervisors, Workers] =
            [proplists:get_value(Key, Count) || Key <- [specs, active, supervisors, workers]],
        io_lib:format("~s ~p/~p/~p/~p", [Sup, Specs, Active, Supervisors, Workers])
    end,
    Below = fun Below(Sup) ->
        [Sup | lists:append([Below(Id) || {Id, Pid, supervisor, _} <-
            supervisor:which_children(atom(Sup)), is_pid(Pid)])]
    end,
    case whereis(atom(Root)) of
        undefined -> [];
        _ -> [Of(Sup) || Sup <- lists:sort(Below(Root))]
    end.

%% ---- the log: it knows who runs, and who is to misbehave -----------------------------------------

new_log() ->
    #{events => [], seen => 0, running => #{}, fails => #{}, ignores => #{}, own => #{}}.

ask(Question) ->
    Ref = monitor(process, log),
    log ! {self(), Ref, Question},
    receive
        {Ref, Answer} -> demonitor(Ref, [flush]), Answer;
        {'DOWN', Ref, process, _, Reason} -> exit(Reason)
    end.

log(State) ->
    receive
        {From, Ref, Question} ->
            {Answer, Next} = answer(Question, State),
            From ! {Ref, Answer},
            log(Next);
        {'DOWN', _, process, Pid, Reason} ->
            log(down(Pid, Reason, State))
    end.

answer({start, Kind, Id, Pid}, #{fails := Fails, running := Running} = State) ->
    case Fails of
        #{Id := Times} when Times > 0 ->
            {fail, event("fail " ++ Id, State#{fails := Fails#{Id := Times - 1}})};
        _ ->
            monitor(process, Pid),
            {ok, event("start " ++ Id, State#{running := Running#{Pid => {Kind, Id}}})}
    end;
answer({stop, Id}, #{ignores := Ignores} = State) ->
    {maps:get(Id, Ignores, false), event("stop " ++ Id, State)};
answer({start_fails, Id, Times}, #{fails := Fails} = State) ->
    {none, State#{fails := Fails#{Id => Times}}};
answer({ignores_stop, Id}, #{ignores := Ignores} = State) ->
    {none, State#{ignores := Ignores#{Id => true}}};
answer({own_death, Id}, #{running := Running, own := Own} = State) ->
    case [Pid || {Pid, {worker, Name}} <- maps:to_list(Running), Name =:= Id] of
        [] -> {none, State};
        [Pid] -> {Pid, State#{own := Own#{Pid => true}}}
    end;
answer(events, #{events := Events} = State) ->
    {lists:reverse(Events), State#{events := []}};
answer(seen, #{seen := Seen} = State) ->
    {Seen, State};
answer(running, #{running := Running} = State) ->
    {lists:sort([Id || {worker, Id} <- maps:values(Running)]), State}.

%% A worker that was told to stop has said so itself.
down(Pid, Reason, #{running := Running, own := Own} = State) ->
    {{Kind, Id}, Rest} = maps:take(Pid, Running),
    Next = State#{running := Rest},
    case {Kind, Reason} of
        {supervisor, _} -> event("stop " ++ Id, Next);
        {worker, killed} when not is_map_key(Pid, Own) -> event("kill " ++ Id, Next);
        {worker, _} -> Next
    end.

event(Event, #{events := Events, seen := Seen} = State) ->
    State#{events := [Event | Events], seen := Seen + 1}.

%% ---- the supervisors and the workers -------------------------------------------------------------

start_supervisor({Id, _, _} = Spec) ->
    supervisor:start_link({local, atom(Id)}, ?MODULE, {supervisor, Spec}).

start_worker(Id, Shutdown) ->
    gen_server:start_link(?MODULE, {worker, Id, Shutdown}, []).

init({supervisor, {Id, Flags, Children}}) ->
    ok = ask({start, supervisor, Id, self()}),
    {ok, {Flags, Children}};
init({worker, Id, Shutdown}) ->
    %% Who is killed at once has nothing to say.
    process_flag(trap_exit, Shutdown =/= "kill"),
    case ask({start, worker, Id, self()}) of
        ok -> {ok, Id};
        fail -> {stop, failed}
    end.

handle_call(_, _, State) -> {noreply, State}.

%% By itself: terminate has nothing to do then.
handle_cast({die, Reason}, _) -> {stop, Reason, by_itself}.

terminate(_, by_itself) ->
    ok;
terminate(_, Id) ->
    case ask({stop, Id}) of
        true -> timer:sleep(infinity);
        false -> ok
    end.
