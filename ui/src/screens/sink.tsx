export function SinkScreen(_: any) { return <main class="page"><h1>SinkScreen</h1></main>; }
