//! Formulas over the values of series.
//!
//! A formula is read once, into steps that work on a stack, so that a value takes no recursion:
//!
//! ```text
//! sum     = product, { ("+" | "-"), product } ;
//! product = factor, { ("*" | "/"), factor } ;
//! factor  = "-", factor | "(", sum, ")" | number | name ;
//! ```

use gristmill_model::limits;

/// A formula that has been read.
#[derive(Debug)]
pub(super) struct ReadyFormula {
    steps: Vec<Step>,
}

/// What happens to the stack.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// A number is put on it.
    Number(f64),
    /// The value of a series is put on it.
    Series(usize),
    /// The value on top changes its sign.
    Negate,
    /// The two values on top become one.
    Apply(Operator),
}

#[derive(Clone, Copy, Debug)]
enum Operator {
    Add,
    Subtract,
    Multiply,
    Divide,
}

impl ReadyFormula {
    /// Reads a formula over series of these names. An error says what is wrong and where, and
    /// goes on from the name of the formula.
    pub(super) fn of(expression: &str, names: &[&str]) -> Result<Self, String> {
        let most = limits::FORMULA_BYTES;
        if expression.len() > most {
            return Err(format!("is longer than {most} bytes"));
        }
        let mut parser = Parser { text: expression, at: 0, names, depth: 0, steps: Vec::new() };
        parser.sum()?;
        match parser.peek() {
            None => Ok(Self { steps: parser.steps }),
            Some(_) => Err(parser.wrong("an operator or the end is expected")),
        }
    }

    /// The value that follows from those of the series; `None` if it needs one that there is not,
    /// divides by 0 or leaves the range of floating-point numbers.
    pub(super) fn value(&self, values: &[Option<f64>]) -> Option<f64> {
        let mut stack: Vec<f64> = Vec::with_capacity(self.steps.len());
        for step in &self.steps {
            let value = match *step {
                Step::Number(number) => number,
                Step::Series(series) => values[series]?,
                Step::Negate => -stack.pop()?,
                Step::Apply(operator) => {
                    let right = stack.pop()?;
                    operator.apply(stack.pop()?, right)
                }
            };
            if !value.is_finite() {
                return None;
            }
            stack.push(value);
        }
        stack.pop()
    }
}

impl Operator {
    /// Not finite where there is no result.
    fn apply(self, left: f64, right: f64) -> f64 {
        match self {
            Operator::Add => left + right,
            Operator::Subtract => left - right,
            Operator::Multiply => left * right,
            Operator::Divide => left / right,
        }
    }
}

struct Parser<'a> {
    text: &'a str,
    /// How many bytes have been read.
    at: usize,
    names: &'a [&'a str],
    depth: usize,
    steps: Vec<Step>,
}

impl Parser<'_> {
    fn sum(&mut self) -> Result<(), String> {
        self.product()?;
        loop {
            let operator = match self.peek() {
                Some('+') => Operator::Add,
                Some('-') => Operator::Subtract,
                _ => return Ok(()),
            };
            self.at += 1;
            self.product()?;
            self.steps.push(Step::Apply(operator));
        }
    }

    fn product(&mut self) -> Result<(), String> {
        self.factor()?;
        loop {
            let operator = match self.peek() {
                Some('*') => Operator::Multiply,
                Some('/') => Operator::Divide,
                _ => return Ok(()),
            };
            self.at += 1;
            self.factor()?;
            self.steps.push(Step::Apply(operator));
        }
    }

    fn factor(&mut self) -> Result<(), String> {
        let first = self.peek();
        let most = limits::FORMULA_DEPTH;
        if self.depth == most {
            return Err(self.wrong(&format!("it is nested more than {most} levels deep")));
        }
        self.depth += 1;
        match first {
            Some('-') => {
                self.at += 1;
                self.factor()?;
                self.steps.push(Step::Negate);
            }
            Some('(') => {
                self.at += 1;
                self.sum()?;
                if self.peek() != Some(')') {
                    return Err(self.wrong("`)` is expected"));
                }
                self.at += 1;
            }
            Some(c) if c.is_ascii_digit() || c == '.' => self.number()?,
            Some(c) if begins_name(c) => self.name()?,
            _ => return Err(self.wrong("a number, the name of a series or `(` is expected")),
        }
        self.depth -= 1;
        Ok(())
    }

    fn number(&mut self) -> Result<(), String> {
        let text = &self.text[self.at..];
        let text = &text[..number_length(text)];
        let number: Option<f64> = text.parse().ok();
        let Some(number) = number.filter(|number| number.is_finite()) else {
            return Err(self.wrong("this is no number"));
        };
        self.at += text.len();
        self.steps.push(Step::Number(number));
        Ok(())
    }

    fn name(&mut self) -> Result<(), String> {
        let text = &self.text[self.at..];
        let length = text.find(|c| !begins_name(c) && !c.is_numeric()).unwrap_or(text.len());
        let text = &text[..length];
        let Some(series) = self.names.iter().position(|name| *name == text) else {
            return Err(self.wrong("there is no series of this name"));
        };
        self.at += length;
        self.steps.push(Step::Series(series));
        Ok(())
    }

    /// The next character that is no space.
    fn peek(&mut self) -> Option<char> {
        let rest = self.text[self.at..].trim_start();
        self.at = self.text.len() - rest.len();
        rest.chars().next()
    }

    fn wrong(&self, what: &str) -> String {
        let character = self.text[..self.at].chars().count() + 1;
        format!("is wrong at character {character}: {what}")
    }
}

fn begins_name(c: char) -> bool {
    c.is_alphabetic() || c == '_'
}

/// The length of the digits, points and exponent that a text begins with.
fn number_length(text: &str) -> usize {
    let digits = |text: &str| {
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.');
        end.unwrap_or(text.len())
    };
    let mantissa = digits(text);
    let Some(exponent) = text[mantissa..].strip_prefix(['e', 'E']) else { return mantissa };
    let unsigned = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
    match digits(unsigned) {
        0 => mantissa,
        length => text.len() - unsigned.len() + length,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NAMES: &[&str] = &["A", "sales_2", "Käufe", "not usable"];

    fn value(expression: &str, values: &[Option<f64>]) -> Option<f64> {
        ReadyFormula::of(expression, NAMES).unwrap().value(values)
    }

    fn error(expression: &str) -> String {
        ReadyFormula::of(expression, NAMES).unwrap_err()
    }

    #[test]
    fn operators_bind_as_in_school() {
        let values = [Some(8.0), Some(2.0), Some(0.5), None];
        for (expression, expected) in [
            ("A", 8.0),
            ("A / sales_2 * 100", 400.0),
            ("A/(sales_2*100)", 0.04),
            ("1 - 2 - 3", -4.0),
            ("2+3*4", 14.0),
            ("-A - -sales_2", -6.0),
            ("--Käufe*1e2", 50.0),
            (" ( ( .5 ) ) + 1.5E-1 ", 0.65),
        ] {
            assert_eq!(value(expression, &values), Some(expected), "{expression}");
        }
    }

    #[test]
    fn there_is_no_value_without_all_values_and_none_beyond_numbers() {
        assert_eq!(value("A / sales_2", &[Some(1.0), Some(0.0), None, None]), None);
        assert_eq!(value("A / A", &[Some(0.0), None, None, None]), None);
        assert_eq!(value("A + sales_2", &[Some(1.0), None, None, None]), None);
        assert_eq!(value("1 / (A * A)", &[Some(1e200), None, None, None]), None);
    }

    #[test]
    fn mistakes_are_named_with_their_place() {
        let operand = "a number, the name of a series or `(` is expected";
        for (expression, expected) in [
            ("", format!("is wrong at character 1: {operand}")),
            ("A + ", format!("is wrong at character 5: {operand}")),
            ("A % 2", "is wrong at character 3: an operator or the end is expected".to_owned()),
            ("Käufe + B", "is wrong at character 9: there is no series of this name".to_owned()),
            ("not usable", "is wrong at character 1: there is no series of this name".to_owned()),
            ("(A", "is wrong at character 3: `)` is expected".to_owned()),
            ("1.2.3", "is wrong at character 1: this is no number".to_owned()),
            ("1e999", "is wrong at character 1: this is no number".to_owned()),
            ("2A", "is wrong at character 2: an operator or the end is expected".to_owned()),
            ("2e", "is wrong at character 2: an operator or the end is expected".to_owned()),
        ] {
            assert_eq!(error(expression), expected, "{expression}");
        }
        assert_eq!(error(&"1+".repeat(501)), "is longer than 1000 bytes");
        let nested = |depth| format!("{}A{}", "(".repeat(depth), ")".repeat(depth));
        assert!(ReadyFormula::of(&nested(limits::FORMULA_DEPTH - 1), NAMES).is_ok());
        let deep = error(&nested(limits::FORMULA_DEPTH));
        assert_eq!(deep, "is wrong at character 33: it is nested more than 32 levels deep");
        assert!(error(&"-".repeat(900)).contains("nested more than 32 levels"));
    }

    /// A formula with its value, worked out while it is made.
    fn formulas() -> impl Strategy<Value = (String, Option<f64>)> {
        let leaf = prop_oneof![
            (0..5_u8).prop_map(|n| (n.to_string(), Some(f64::from(n)))),
            Just(("A".to_owned(), Some(3.0))),
            Just(("sales_2".to_owned(), None)),
        ];
        leaf.prop_recursive(4, 16, 2, |inner| {
            let pair =
                (inner.clone(), inner.clone(), proptest::sample::select(&["+", "-", "*", "/"]));
            prop_oneof![
                4 => pair.prop_map(|((a, x), (b, y), operator)| {
                    let value = x.zip(y).map(|(x, y)| match operator {
                        "+" => x + y,
                        "-" => x - y,
                        "*" => x * y,
                        _ => x / y,
                    });
                    (format!("({a}{operator} {b})"), value.filter(|value| value.is_finite()))
                }),
                1 => inner.prop_map(|(a, x)| (format!("-{a}"), x.map(|x| -x))),
            ]
        })
    }

    proptest! {
        #[test]
        fn values_are_those_of_the_tree((expression, expected) in formulas()) {
            prop_assert_eq!(value(&expression, &[Some(3.0), None, None, None]), expected);
        }

        #[test]
        fn any_text_is_read_or_refused(expression in ".{0,30}|[A()+*/.0-9e -]{0,30}") {
            let _ = ReadyFormula::of(&expression, NAMES);
        }
    }
}
