#!/usr/bin/env escript
%% How long Erlang's `supervisor` takes from the kill of a child to the answer of its replacement:
%% the children of a one_for_one supervisor are killed one after the other, each once, and the
%% registered name is called until it answers. Prints {"median_us","p99_us","restarts"}.
%%
%%   restart.escript polled|told RESTARTS
%%
%% polled looks at the name again and again
%% told   waits until the replacement says in its init that it is there, and then calls it
-module(restart).
-mode(compile).
-export([main/1]).
-export([init/1, handle_call/3, handle_cast/2, start_worker/2]).

%% As many as are restarted for one value by the other side.
-define(CHILDREN, 100).

main([How, Restarts]) ->
    logger:set_primary_config(level, none),
    process_flag(trap_exit, true),
    Round = fun() -> round_of(list_to_atom(How)) end,
    %% Once, not counted.
    Round(),
    Times = lists:sort(gather(Round, list_to_integer(Restarts), [])),
    Count = length(Times),
    At = fun(Share) -> lists:nth(trunc(Count * Share) + 1, Times) / 1000 end,
    io:format("{\"median_us\":~.3f,\"p99_us\":~.3f,\"restarts\":~b}~n", [At(0.5), At(0.99), Count]);
main(_) ->
    io:format(standard_error, "usage: restart.escript polled|told RESTARTS~n", []),
    halt(2).

gather(_, Wanted, Times) when length(Times) >= Wanted -> Times;
gather(Round, Wanted, Times) -> gather(Round, Wanted, Round() ++ Times).

%% With a fresh tree. In ns.
round_of(How) ->
    Names = [list_to_atom("child_" ++ integer_to_list(N)) || N <- lists:seq(1, ?CHILDREN)],
    Told = case How of told -> self(); polled -> none end,
    {ok, Sup} = supervisor:start_link(?MODULE, {supervisor, Names, Told}),
    [answered = gen_server:call(Name, question) || Name <- Names],
    flush(),
    Times = [restart(How, Name) || Name <- Names],
    unlink(Sup),
    Ref = monitor(process, Sup),
    exit(Sup, shutdown),
    receive {'DOWN', Ref, process, Sup, _} -> Times end.

restart(How, Name) ->
    Pid = whereis(Name),
    Killed = erlang:monotonic_time(nanosecond),
    exit(Pid, kill),
    ok = wait(How, Name, Pid),
    erlang:monotonic_time(nanosecond) - Killed.

wait(polled, Name, Dead) ->
    case whereis(Name) of
        Pid when is_pid(Pid), Pid =/= Dead ->
            answered = gen_server:call(Pid, question),
            ok;
        _ ->
            wait(polled, Name, Dead)
    end;
wait(told, Name, _) ->
    receive {up, Name} -> ok after 10000 -> exit(not_restarted) end,
    answered = gen_server:call(Name, question),
    ok.

flush() ->
    receive {up, _} -> flush() after 0 -> ok end.

start_worker(Name, Told) ->
    gen_server:start_link({local, Name}, ?MODULE, {worker, Name, Told}, []).

init({supervisor, Names, Told}) ->
    Flags = #{strategy => one_for_one, intensity => 2 * ?CHILDREN, period => 60},
    {ok, {Flags, [#{id => Name, start => {?MODULE, start_worker, [Name, Told]}} || Name <- Names]}};
init({worker, _, none}) ->
    {ok, none};
init({worker, Name, Told}) ->
    Told ! {up, Name},
    {ok, none}.

handle_call(question, _, State) -> {reply, answered, State}.

handle_cast(_, State) -> {noreply, State}.
