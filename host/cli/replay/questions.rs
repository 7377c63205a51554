//! `--query NAME [--input JSON]`, as often as one likes: an input belongs to the query before it.

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};
use everfold_core::payload::Payload;

use crate::cli::failure::{Exit, Failure};
use crate::cli::input;

const QUERY: &str = "query";
const INPUT: &str = "input";

/// Questions as they stand on the command line.
#[derive(Clone, Debug, Default)]
pub(super) struct Questions(Vec<(String, Option<String>)>);

/// A question to the replayed run.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) name: String,
    pub(super) input: Payload,
}

impl Questions {
    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What is asked, in order.
    ///
    /// # Errors
    /// When an input is not JSON, or something is asked twice.
    pub(super) fn asked(&self) -> Result<Vec<Question>, Failure> {
        let mut questions: Vec<Question> = Vec::new();
        for (name, text) in &self.0 {
            if questions.iter().any(|question| question.name == *name) {
                return Err(Failure::new(Exit::Usage, format!("--query {name} is given twice")));
            }
            let value = input::parse("the query's input", text.as_deref().unwrap_or("null"))?;
            let input = Payload::json(&value).map_err(anyhow::Error::from)?;
            questions.push(Question { name: name.clone(), input });
        }
        Ok(questions)
    }
}

impl Args for Questions {
    fn augment_args(command: Command) -> Command {
        command
            .arg(
                Arg::new(QUERY)
                    .long(QUERY)
                    .value_name("NAME")
                    .action(ArgAction::Append)
                    .help("Ask the run this, as it stood there; without --until, at the end"),
            )
            .arg(
                Arg::new(INPUT)
                    .long(INPUT)
                    .value_name("JSON|@FILE")
                    .action(ArgAction::Append)
                    .requires(QUERY)
                    .allow_negative_numbers(true)
                    .help("What is asked with the --query before it: JSON, @FILE, or @- for standard input"),
            )
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Questions {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let placed = |id: &str| -> Vec<(usize, String)> {
            let places = matches.indices_of(id).into_iter().flatten();
            places.zip(matches.get_many::<String>(id).into_iter().flatten().cloned()).collect()
        };
        let queries = placed(QUERY);
        let mut questions: Vec<(String, Option<String>)> =
            queries.iter().map(|(_, name)| (name.clone(), None)).collect();
        for (place, text) in placed(INPUT) {
            let before = queries.iter().filter(|(query, _)| *query < place).count();
            match before.checked_sub(1).and_then(|at| questions.get_mut(at)) {
                Some((_, input @ None)) => *input = Some(text),
                Some((name, Some(_))) => {
                    return Err(misplaced(&format!("--query {name} has two of --input")));
                }
                None => return Err(misplaced("--input stands behind the --query that it belongs to")),
            }
        }
        Ok(Self(questions))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

fn misplaced(message: &str) -> clap::Error {
    clap::Error::raw(clap::error::ErrorKind::ArgumentConflict, format!("{message}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(arguments: &[&str]) -> Result<Vec<(String, String)>, String> {
        let command = Questions::augment_args(Command::new("replay").no_binary_name(true));
        let matches = command.try_get_matches_from(arguments).map_err(|error| error.to_string())?;
        let questions = Questions::from_arg_matches(&matches).map_err(|error| error.to_string())?;
        let questions = questions.asked().map_err(|failure| format!("{failure:?}"))?;
        Ok(questions.into_iter().map(|asked| (asked.name, asked.input.to_value().to_string())).collect())
    }

    #[test]
    fn an_input_belongs_to_the_query_before_it() {
        let pairs = |pairs: &[(&str, &str)]| {
            Ok(pairs.iter().map(|(name, input)| ((*name).to_owned(), (*input).to_owned())).collect())
        };
        assert_eq!(asked(&[]), pairs(&[]));
        assert_eq!(asked(&["--query", "a", "--query", "b"]), pairs(&[("a", "null"), ("b", "null")]));
        assert_eq!(
            asked(&["--query", "a", "--input", "-1", "--query", "b", "--query", "c", "--input", "{}"]),
            pairs(&[("a", "-1"), ("b", "null"), ("c", "{}")])
        );
        for (wrong, says) in [
            (&["--input", "1", "--query", "a"][..], "stands behind"),
            (&["--query", "a", "--input", "1", "--input", "2"], "two of --input"),
            (&["--query", "a", "--query", "a"], "given twice"),
            (&["--query", "a", "--input", "{"], "is not JSON"),
            (&["--input", "1"], "--query"),
        ] {
            let refused = asked(wrong).expect_err("it is refused");
            assert!(refused.contains(says), "{wrong:?}: {refused}");
        }
    }
}
