export function SessionScreen(_: any) { return <main class="page"><h1>SessionScreen</h1></main>; }
