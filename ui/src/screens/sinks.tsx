export function Sinks(_: any) { return <main class="page"><h1>Sinks</h1></main>; }
